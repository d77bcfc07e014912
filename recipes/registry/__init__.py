"""Services and their instances, as Curator's x-discovery has them; who calls which, and rules."""

from recipes.registry.choosing import (
    Balancer,
    Call,
    Candidate,
    ConsistentHash,
    LeastActive,
    RandomChoice,
    RoundRobin,
)
from recipes.registry.consumer import RULES, NoInstanceError, NotAdmittedError, ServiceConsumer
from recipes.registry.discovery import Found, ServiceView, find, list_services
from recipes.registry.ejection import Ejection
from recipes.registry.instance import FormatError, ServiceInstance, ServiceType
from recipes.registry.registration import ServiceRegistration, SomebodyElseError
from recipes.registry.rules import Access, Route, ServiceRules
from recipes.registry.view import Event, Kind

__all__ = [
    "RULES",
    "Access",
    "Balancer",
    "Call",
    "Candidate",
    "ConsistentHash",
    "Ejection",
    "Event",
    "FormatError",
    "Found",
    "Kind",
    "LeastActive",
    "NoInstanceError",
    "NotAdmittedError",
    "RandomChoice",
    "RoundRobin",
    "Route",
    "ServiceConsumer",
    "ServiceInstance",
    "ServiceRegistration",
    "ServiceRules",
    "ServiceType",
    "ServiceView",
    "SomebodyElseError",
    "find",
    "list_services",
]

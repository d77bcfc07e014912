"""Services and their instances, in the znodes of Curator's x-discovery."""

from recipes.registry.discovery import Found, ServiceView, find, list_services
from recipes.registry.instance import FormatError, ServiceInstance, ServiceType
from recipes.registry.registration import ServiceRegistration, SomebodyElseError
from recipes.registry.view import Event, Kind

__all__ = [
    "Event",
    "FormatError",
    "Found",
    "Kind",
    "ServiceInstance",
    "ServiceRegistration",
    "ServiceType",
    "ServiceView",
    "SomebodyElseError",
    "find",
    "list_services",
]

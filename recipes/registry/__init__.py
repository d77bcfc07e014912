"""Services and their instances, in the znodes of Curator's x-discovery."""

from recipes.registry.instance import FormatError, ServiceInstance, ServiceType
from recipes.registry.registration import ServiceRegistration, SomebodyElseError

__all__ = [
    "FormatError",
    "ServiceInstance",
    "ServiceRegistration",
    "ServiceType",
    "SomebodyElseError",
]

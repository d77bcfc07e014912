"""Cluster membership: who is there, who is suspect, who has left; and no mass of false alarms."""

from recipes.membership.member import ClusterMember
from recipes.membership.observer import ClusterObserver
from recipes.membership.view import Event, Kind, Member, Status, choose_master

__all__ = [
    "ClusterMember",
    "ClusterObserver",
    "Event",
    "Kind",
    "Member",
    "Status",
    "choose_master",
]

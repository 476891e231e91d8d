"""The link to the MQTT broker: one connection (`link`), and having one again whenever it is lost (`keeping`)."""

from landingd.edge.broker.keeping import keep_connected
from landingd.edge.broker.link import Address, Link, LinkLost, Message, Refused, connect

__all__ = ["Address", "Link", "LinkLost", "Message", "Refused", "connect", "keep_connected"]

"""Captures every packet that leaves this host, including its loopback, until SIGTERM. usage: capture.py

Each kind of packet (protocol, source, destination) is one JSON line on stdout when it is first seen. The last line has
the number of packets that the kernel dropped before the capture read them.
"""

import ipaddress
import json
import signal
import socket
import struct
import sys

ETH_P_ALL, ETH_P_IP, ETH_P_ARP, ETH_P_IPV6 = 3, 0x0800, 0x0806, 0x86DD
SOL_PACKET, PACKET_STATISTICS, SO_RCVBUFFORCE = 263, 6, 33
NAMES = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
HEAD_LEN = 256


def kind(ether_type, packet):
    """The protocol, source and destination of a packet; ports of TCP and UDP, the type of ICMPv6."""
    if ether_type == ETH_P_ARP:
        return {"protocol": "arp", "destination": str(ipaddress.ip_address(packet[24:28]))}
    if ether_type == ETH_P_IP:
        protocol, source, destination, rest = packet[9], packet[12:16], packet[16:20], packet[(packet[0] & 15) * 4:]
    elif ether_type == ETH_P_IPV6:
        protocol, source, destination, rest = packet[6], packet[8:24], packet[24:40], packet[40:]
        if protocol == 0:  # hop-by-hop options, as in the kernel's multicast reports
            protocol, rest = rest[0], rest[(rest[1] + 1) * 8:]
    else:
        return {"protocol": f"ethernet {ether_type:#06x}"}
    found = {"protocol": NAMES.get(protocol, f"ip {protocol}"),
             "source": str(ipaddress.ip_address(source)), "destination": str(ipaddress.ip_address(destination))}
    if protocol in (6, 17):
        found["source_port"], found["destination_port"] = struct.unpack(">HH", rest[:4])
    if protocol == 58:
        found["type"] = rest[0]
    return found


def stop(*_):
    _, dropped = struct.unpack("II", watched.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    print(json.dumps({"dropped": dropped}), flush=True)
    sys.exit(0)


watched = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
watched.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
signal.signal(signal.SIGTERM, stop)
print(json.dumps({"watching": True}), flush=True)
seen = set()
while True:
    head, (_, ether_type, direction, *_) = watched.recvfrom(HEAD_LEN)
    if direction != socket.PACKET_OUTGOING:
        continue
    line = json.dumps(kind(ether_type, head))
    if line not in seen:
        seen.add(line)
        print(line, flush=True)

"""A libtorrent seeder or downloader without DHT, encryption or uTP. usage: lt_client.py seed|get|share TORRENT|MAGNET FOLDER IP PORT [RATE]

share: prints "complete" and continues as a seed. RATE: bytes/s, up and down."""

import sys
import time

import libtorrent as lt

SETTINGS = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "out_enc_policy": 2,
    "in_enc_policy": 2,
    "allow_multiple_connections_per_ip": True,
    "min_announce_interval": 1,
    "active_downloads": -1,
    "active_seeds": -1,
    "active_limit": 100,
    # The fastest settings for one connection: deep queues, large send buffers.
    "max_out_request_queue": 1500,
    "max_allowed_in_request_queue": 2000,
    "send_buffer_watermark": 3 << 20,
    "send_buffer_low_watermark": 512 << 10,
    "send_buffer_watermark_factor": 150,
    "max_queued_disk_bytes": 64 << 20,
    "unchoke_slots_limit": 200,
    "hashing_threads": 2,
    "aio_threads": 4,
    "rate_limit_ip_overhead": False,
    "alert_mask": lt.alert.category_t.error_notification | lt.alert.category_t.storage_notification
    | lt.alert.category_t.status_notification | lt.alert.category_t.tracker_notification
    | lt.alert.category_t.connect_notification,
}
FLUSH_TIMEOUT_S = 60


def report(session):
    """Prints the alerts of the session; returns their names."""
    alerts = session.pop_alerts()
    for alert in alerts:
        print(alert.what(), alert.message(), flush=True)
    return [alert.what() for alert in alerts]


def main():
    role, torrent, folder, ip, port, *rate = sys.argv[1:]
    limits = {limit: int(rate[0]) for limit in ("upload_rate_limit", "download_rate_limit") if rate}
    session = lt.session({**SETTINGS, **limits, "listen_interfaces": f"{ip}:{port}"})
    if torrent.startswith("magnet:"):
        parameters = lt.parse_magnet_uri(torrent)
    else:
        parameters = lt.add_torrent_params()
        parameters.ti = lt.torrent_info(torrent)
    parameters.save_path = folder
    parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if role == "seed":
        parameters.flags |= lt.torrent_flags.seed_mode
    torrent = session.add_torrent(parameters)
    while role == "seed" or not torrent.status().is_seeding:
        report(session)
        time.sleep(0.2 if role == "seed" else 0.01)
    if role == "share":
        print("complete", flush=True)
        while True:
            report(session)
            time.sleep(0.2)
    torrent.flush_cache()
    deadline = time.monotonic() + FLUSH_TIMEOUT_S
    while "cache_flushed" not in report(session) and time.monotonic() < deadline:
        time.sleep(0.01)
    print("complete", flush=True)


main()

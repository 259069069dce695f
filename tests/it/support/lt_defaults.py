"""A libtorrent downloader with its default settings, which prefer uTP. usage: lt_defaults.py TORRENT FOLDER IP PORT

Only peer discovery other than by the tracker is disabled. Runs until it is killed."""

import sys
import time

import libtorrent as lt

torrent, folder, ip, port = sys.argv[1:]
session = lt.session({
    "listen_interfaces": f"{ip}:{port}",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "alert_mask": lt.alert.category_t.status_notification | lt.alert.category_t.connect_notification
    | lt.alert.category_t.tracker_notification,
})
parameters = lt.add_torrent_params()
parameters.ti = lt.torrent_info(torrent)
parameters.save_path = folder
session.add_torrent(parameters)
while True:
    for alert in session.pop_alerts():
        print(alert.what(), alert.message(), flush=True)
    time.sleep(0.01)

"""Creates and shows torrents with libtorrent. usage: lt_torrent.py create SOURCE TORRENT PIECE_LENGTH PRIVATE(0|1) TRACKER | show TORRENT"""

import json
import os
import sys

import libtorrent as lt


def create(source, torrent, piece_len, private, tracker):
    # libtorrent keeps the order of the directory. Sort the files, so that the layout is always the same.
    files = sorted(lt.list_files(source), key=lambda file: file.filename.encode())
    draft = lt.create_torrent(files, int(piece_len), lt.create_torrent.v1_only)
    draft.set_priv(private == "1")
    draft.add_tracker(tracker)
    draft.set_creator("libtorrent")
    lt.set_piece_hashes(draft, os.path.dirname(source))
    with open(torrent, "wb") as out:
        out.write(lt.bencode(draft.generate()))


def show(torrent):
    info = lt.torrent_info(torrent)
    files = info.files()
    tiers = {}
    for tracker in info.trackers():
        tiers.setdefault(tracker.tier, []).append(tracker.url)
    print(json.dumps({
        "name": info.name(),
        "info_hash": str(info.info_hashes().v1),
        "piece_length": info.piece_length(),
        "piece_count": info.num_pieces(),
        "total_length": info.total_size(),
        "private": info.priv(),
        "files": [{"path": files.file_path(index), "length": files.file_size(index)}
                  for index in range(files.num_files())],
        "trackers": [tiers[tier] for tier in sorted(tiers)],
    }))


{"create": create, "show": show}[sys.argv[1]](*sys.argv[2:])

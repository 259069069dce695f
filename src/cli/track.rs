//! `bt-fast track`.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::activation::Handed;
use super::exit::{Exit, Failure, exit_of};
use super::interrupt::{self, Hangup};
use super::notify;
use super::options::{TrackList, TrackOptions};
use super::output::Output;
use super::records::Record;
use crate::base::InfoHash;
use crate::base::limits::TRACKER_LIST_LEN_MAX;
use crate::base::units::Count;
use crate::create::open::{open_regular, shown};
use crate::engine::listen_remedy;
use crate::tracker::Table;
use crate::web::reuse_port::{bind_tcp, bind_udp, share_tcp, share_udp};
use crate::web::tracker::{Tracker, http, udp};

/// Interval at which the flags of signals are checked.
const TICK: Duration = Duration::from_millis(100);

pub(super) fn run(options: &TrackOptions, output: &Output) -> Result<(), Failure> {
    let (stop, reload) = match &options.list {
        TrackList::Open => (interrupt::flag(Hangup::Ends)?, Arc::default()),
        TrackList::File(_) => (interrupt::flag(Hangup::Reloads)?, interrupt::reload_flag()?),
    };
    let table = match &options.list {
        TrackList::Open => Table::open(),
        TrackList::File(path) => {
            let table = Table::listed();
            table.allow_only(&load_list(path)?);
            table
        }
    };
    let tracker = Tracker::new(table);
    let refuse = |error: &io::Error| {
        let line = format_args!("can't listen on {}: {error}: {}", options.listen, listen_remedy(error, "--listen"));
        Failure::new(exit_of(error), line)
    };
    let Handed { web, tracker: udp, .. } = Handed::take(&["web", "tracker"])?;
    let listeners = match web {
        Some(listener) => share_tcp(&listener, options.threads),
        None => bind_tcp(options.listen, options.threads),
    };
    let listeners = listeners.map_err(|error| refuse(&error))?;
    let address = listeners.first().and_then(|listener| listener.local_addr().ok()).unwrap_or(options.listen);
    let sockets = match udp {
        Some(socket) => share_udp(&socket, options.threads),
        None => bind_udp(address, options.threads),
    };
    let sockets = sockets.map_err(|error| refuse(&error))?;
    let mut threads = udp::start(sockets, &tracker, &stop)?;
    threads.extend(http::start(listeners, &tracker, &options.trusted_proxies, &stop)?);
    report_start(address, &tracker, &options.list, output);

    notify::ready(&format!("tracking on {address}"));
    let started = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(TICK);
        if let (TrackList::File(path), true) = (&options.list, reload.swap(false, Ordering::Relaxed)) {
            reread(path, &tracker, output);
        }
    }
    notify::stopping();
    for thread in threads {
        let _ = thread.join();
    }
    output.record(&Record::Tracked { seconds: started.elapsed().as_secs_f64(), totals: tracker.totals() });
    Ok(())
}

fn report_start(address: SocketAddr, tracker: &Tracker, list: &TrackList, output: &Output) {
    let torrents = tracker.table().counts().swarms;
    let what = match list {
        TrackList::Open => "any torrent".to_owned(),
        TrackList::File(path) => format!("{} of {}", Count(torrents as u64, "torrent"), shown(path)),
    };
    output.message(format_args!("tracking {what} on {address}, http and udp; Ctrl-C stops"));
    output.record(&Record::Tracking { address: address.to_string(), torrents });
}

/// Reads the list again. The tracker keeps the old list if the new one cannot be read.
fn reread(path: &Path, tracker: &Tracker, output: &Output) {
    match load_list(path) {
        Ok(list) => {
            tracker.table().allow_only(&list);
            output.message(format_args!("{} of {}", Count(list.len() as u64, "torrent"), shown(path)));
        }
        Err(failure) => output.warning(format_args!("the list is unchanged: {failure}")),
    }
}

/// Reads a list with one hexadecimal info-hash per line. Text after the info-hash, empty lines and lines that begin
/// with `#` are ignored.
fn load_list(path: &Path) -> Result<HashSet<InfoHash>, Failure> {
    let unreadable = |error: &io::Error| Failure::io("can't read the list", &shown(path), error);
    let (file, metadata) = open_regular(path).map_err(|error| unreadable(&error))?;
    if metadata.len() > TRACKER_LIST_LEN_MAX {
        let line = format!("can't read the list: {}: more than {TRACKER_LIST_LEN_MAX} bytes", shown(path));
        return Err(Failure::new(Exit::Failed, line));
    }
    let text = io::read_to_string(io::Read::take(file, TRACKER_LIST_LEN_MAX)).map_err(|error| unreadable(&error))?;
    let mut list = HashSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let Some(word) = line.split_whitespace().next().filter(|word| !word.starts_with('#')) else { continue };
        let info_hash = InfoHash::from_hex(word).ok_or_else(|| {
            let line = format!("bad list: {}: line {number}: give an info-hash of 40 hexadecimal digits", shown(path));
            Failure::new(Exit::Failed, line)
        })?;
        list.insert(info_hash);
    }
    Ok(list)
}

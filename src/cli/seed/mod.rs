//! `bt-fast seed`.

mod follow;
mod followed;
mod handle;
mod hosts;
mod inspector;
mod intake;
mod made;
mod origin;
mod path_kind;
mod paths;
mod prepare;
mod prepared;
mod reachable;
mod refusals;
mod served;
mod session;
mod startup;
mod trust;
mod until;
mod watch;

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use handle::{Reload, SeedState};
use origin::{Origin, PeerSide};
use session::{Ended, Session};
use startup::Startup;

use super::activation::Handed;
use super::exit::Failure;
use super::interrupt::{self, Hangup};
use super::notify;
use super::options::SeedOptions;
use super::output::Output;
use super::records::Record;
use super::transfer::{self, transfer};
use crate::base::limits;
use crate::base::units::Bytes;
use crate::create::open::shown;
use crate::engine::{Config, Contents, Listen};
use crate::web::site::Published;

pub(super) fn run(options: SeedOptions, output: &Output) -> Result<(), Failure> {
    let Signals { stop, reload } = Signals::watch(&options)?;
    let mut handed = Handed::take(&["peers", "web", "tracker", "admin"])?;
    handed.check(options.web.is_some())?;
    check_watched_folder(&options)?;
    transfer::note_driver(&options.engine, output);
    let contents = Arc::new(Contents::counting_hosts());
    let startup = Startup::prepare(&options, &contents, output)?;
    let unhashed_count = startup.unhashed_count();
    let Startup { sources, published, served, paths, refusals } = startup;
    let mut config = config(&options, &contents, handed.peers.take());
    let origin = start_origin(&options, handed, published, &mut config, &stop)?;
    let pending = origin.as_ref().map_or_else(Arc::default, Origin::pending);
    let state = SeedState::new(&served, unhashed_count == 0, pending, stop);

    let session =
        Session { options: &options, config: &config, origin: origin.as_ref(), state: &state, served: &served, output };
    let ended = session.run(sources, paths, refusals, &reload);

    notify::stopping();
    origin.into_iter().for_each(Origin::join);
    conclude(&ended?, state.total_len.load(Ordering::Relaxed), output);
    Ok(())
}

/// The flags that signals set.
struct Signals {
    stop: Arc<AtomicBool>,
    reload: Reload,
}

impl Signals {
    fn watch(options: &SeedOptions) -> Result<Self, Failure> {
        // A terminal that is closed sends SIGHUP too: a seed that runs on one ends with it.
        let is_on_terminal = io::stdin().is_terminal() || io::stderr().is_terminal();
        if options.watch.is_none() && is_on_terminal {
            return Ok(Self { stop: interrupt::flag(Hangup::Ends)?, reload: Reload::default() });
        }
        let stop = interrupt::flag(Hangup::Reloads)?;
        let reload = Reload { watch: interrupt::reload_flag()?, paths: interrupt::reload_flag()? };
        Ok(Self { stop, reload })
    }
}

/// Fails at once if the folder of `--watch` cannot be read.
fn check_watched_folder(options: &SeedOptions) -> Result<(), Failure> {
    let Some(folder) = &options.watch else { return Ok(()) };
    let read = std::fs::read_dir(folder).map(drop);
    read.map_err(|error| Failure::io("can't watch", &shown(folder), &error))
}

/// The engine's settings. `listener` is the socket for peers if the service manager handed one over.
fn config(options: &SeedOptions, contents: &Arc<Contents>, listener: Option<TcpListener>) -> Config {
    let config = transfer::config(&options.network, &options.engine, options.serving, limits::CONNECTIONS_SEED_MAX);
    Config {
        contents: Arc::clone(contents),
        rates: options.rates,
        super_seed: options.super_seed,
        listen: listener.map_or(config.listen, Listen::Handed),
        ..config
    }
}

/// Starts the web side if there is one, and has the engine publish its figures to it.
fn start_origin(
    options: &SeedOptions,
    handed: Handed,
    published: Vec<Published>,
    config: &mut Config,
    stop: &Arc<AtomicBool>,
) -> Result<Option<Origin>, Failure> {
    let Some(web) = &options.web else { return Ok(None) };
    let monitor = Arc::clone(config.monitor.insert(Arc::default()));
    let peer_side = PeerSide::new(&config.listen, options.network.announce_ip.as_deref());
    Origin::start(web, handed, peer_side, published, &monitor, &config.contents, stop).map(Some)
}

fn conclude(ended: &Ended, total_len: u64, output: &Output) {
    let Ended { report, hosts } = ended;
    let copies = Copies { uploaded: report.totals.uploaded, total_len };
    output.message(format_args!("sent {copies} in {:.1} s; {hosts}", report.elapsed.as_secs_f64()));
    output.record(&Record::Stopped { seconds: report.elapsed.as_secs_f64(), transfer: transfer(report) });
}

/// `3.2 GiB, 1.60 times the content,`
struct Copies {
    uploaded: u64,
    total_len: u64,
}

impl fmt::Display for Copies {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let copies = self.uploaded as f64 / self.total_len.max(1) as f64;
        write!(f, "{}, {copies:.2} times the content,", Bytes(self.uploaded))
    }
}

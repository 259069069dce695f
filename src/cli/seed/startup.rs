//! The paths of the command line when `seed` starts.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::prepare::{Found, find};
use super::refusals::{Refusals, warn_of_duplicate};
use super::served::ServedTorrent;
use super::session::STATUS_INTERVAL;
use crate::cli::exit::Failure;
use crate::cli::notify;
use crate::cli::options::SeedOptions;
use crate::cli::output::Output;
use crate::create::open::shown;
use crate::engine::{Contents, Source};
use crate::web::site::Published;

/// The paths of the command line, sorted by whether their content has to be hashed first.
pub(super) struct Startup<'a> {
    /// Torrents that are served from the start, each once.
    pub(super) sources: Vec<Source>,
    /// The same torrents for the web side; empty without one.
    pub(super) published: Vec<Published>,
    /// The same torrents for reports.
    pub(super) served: Vec<ServedTorrent>,
    /// Paths whose content has to be hashed first.
    pub(super) unhashed: Vec<PathBuf>,
    pub(super) refusals: Refusals<'a>,
}

impl<'a> Startup<'a> {
    /// Prepares every path without reading content.
    ///
    /// Fails if no path can be served and no torrent can be added later.
    pub(super) fn prepare(
        options: &SeedOptions,
        contents: &Arc<Contents>,
        output: &'a Output,
    ) -> Result<Self, Failure> {
        let mut startup = Self {
            sources: Vec::new(),
            published: Vec::new(),
            served: Vec::new(),
            unhashed: Vec::new(),
            refusals: Refusals::new(options, output),
        };
        let mut known = HashSet::new();
        let mut notified_at = Instant::now();
        for path in &options.torrents {
            if notified_at.elapsed() >= STATUS_INTERVAL {
                notified_at = Instant::now();
                notify::starting(&format!("preparing {}", shown(path)));
            }
            match find(path, options, output) {
                Ok(Found::Ready(source, _)) if !known.insert(source.metainfo.info_hash) => {
                    warn_of_duplicate(path, output);
                }
                Ok(Found::Ready(source, trust)) => {
                    startup.served.push(ServedTorrent::new(&source.metainfo, &source.have, &trust));
                    startup.published.extend(options.web.as_ref().map(|web| {
                        let content = web.web_seed.then(|| Arc::clone(contents));
                        Published::new(source.metainfo.clone(), content, SystemTime::now())
                    }));
                    startup.sources.push(*source);
                }
                Ok(Found::Unhashed) => startup.unhashed.push(path.clone()),
                Err(failure) => startup.refusals.add(path, failure),
            }
        }
        match startup.refusals.conclude(startup.sources.len() + startup.unhashed.len()) {
            Some(failure) => Err(failure),
            None => Ok(startup),
        }
    }
}

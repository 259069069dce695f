//! Resolves the options of `seed`.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    SeedOptions, VerifyMode, address, duration, rate_limit, resolve_engine, resolve_network, resolve_serving,
    trusted_proxies, usage,
};
use crate::base::escape::printable;
use crate::cli::args::{SeedArgs, VerifyArg, WebArgs};
use crate::cli::exit::Failure;
use crate::codec::magnet::Magnet;
use crate::codec::url::{self, WEB_SCHEMES};
use crate::engine::RateLimits;
use crate::web::forwarded::TrustedProxies;

/// The tracker and pages of an origin.
#[derive(Debug, Clone)]
pub struct WebOptions {
    /// `None` for all addresses and the first free port of [`crate::base::limits::WEB_PORTS`].
    pub address: Option<SocketAddr>,
    pub admin: AdminAddress,
    /// Prefix of all links, `http` or `https`.
    pub public_url: Option<String>,
    pub trusted_proxies: TrustedProxies,
    /// Serve the content over HTTP.
    pub web_seed: bool,
}

/// Where the operator's pages are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminAddress {
    Off,
    /// The loopback address and the first free port of [`crate::base::limits::ADMIN_PORTS`].
    Loopback,
    At(SocketAddr),
}

/// The conditions that end `seed`, each of them optional.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct UntilOptions {
    /// Bytes sent per byte of content.
    pub ratio: Option<f64>,
    /// Time since the start.
    pub time: Option<Duration>,
    /// The number of peers with the complete content.
    pub copies: Option<usize>,
    /// Time without anything sent.
    pub idle: Option<Duration>,
}

/// Whether a path is one of a `.torrent` by its name alone.
pub fn is_torrent_name(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("torrent"))
}

/// Whether a path is a pattern of paths: it has wildcards, and no file has this very name.
pub fn is_pattern(path: &Path) -> bool {
    path.as_os_str().as_bytes().iter().any(|byte| b"*?[".contains(byte)) && path.symlink_metadata().is_err()
}

/// Whether a path is a `.torrent` by its name. A path that does not exist counts as one, and is refused when it is
/// read.
fn is_torrent(path: &Path) -> bool {
    is_torrent_name(path) && !path.is_dir() || path.symlink_metadata().is_err()
}

pub(super) fn resolve_seed(args: SeedArgs) -> Result<SeedOptions, Failure> {
    if args.torrents.iter().any(|path| Magnet::is_meant(path.as_os_str().as_bytes())) {
        return Err(usage("seed: a magnet link names no local content: use get --seed"));
    }
    if args.torrents.is_empty() && args.watch.is_none() {
        return Err(usage(
            "seed: nothing to serve: give .torrent files, files or folders, or a folder of .torrent files with --watch DIR",
        ));
    }
    let may_be_content = |path: &PathBuf| !is_torrent(path) || (is_pattern(path) && !is_torrent_name(path));
    let has_content = args.torrents.iter().any(may_be_content);
    if args.data.is_some() && args.watch.is_none() && args.torrents.iter().all(|path| !is_torrent(path)) {
        return Err(usage("--data: applies to .torrent files, and none is given: leave it out"));
    }
    let duration = |flag, text: Option<&str>| text.map(|text| duration(flag, text)).transpose();
    if args.stop_ratio.is_some_and(|ratio| !ratio.is_finite() || ratio <= 0.0) {
        return Err(usage("--stop-ratio: give a number above 0"));
    }
    if args.stop_copies == Some(0) {
        return Err(usage("--stop-copies: give a number above 0"));
    }
    let until = UntilOptions {
        ratio: args.stop_ratio,
        time: duration("--stop-time", args.stop_time.as_deref())?,
        copies: args.stop_copies,
        idle: duration("--stop-idle", args.stop_idle.as_deref())?,
    };
    let engine = resolve_engine(&args.engine)?;
    Ok(SeedOptions {
        web: resolve_web(&args.web, has_content)?,
        until,
        torrents: args.torrents,
        watch: args.watch,
        super_seed: args.super_seed,
        data: args.data,
        verify: match args.verify {
            VerifyArg::Lazy => VerifyMode::Lazy,
            VerifyArg::Full => VerifyMode::Full,
            VerifyArg::None => VerifyMode::Never,
        },
        rates: RateLimits {
            up: rate_limit("--up", args.up.as_deref())?,
            up_each: rate_limit("--up-each", args.up_each.as_deref())?,
            down: None,
        },
        serving: resolve_serving(&args.serving, engine.io.driver)?,
        network: resolve_network(&args.network)?,
        engine,
    })
}

/// Resolves the web side. Content without a `.torrent` turns it on, because its torrent must be published.
fn resolve_web(args: &WebArgs, has_content: bool) -> Result<Option<WebOptions>, Failure> {
    let flags = [
        ("--admin", args.admin.is_some()),
        ("--public-url", args.public_url.is_some()),
        ("--trust-proxy", !args.proxy.trust_proxy.is_empty()),
        ("--web-seed", args.web_seed),
    ];
    let is_on = match args.web.as_deref() {
        Some("off") => false,
        Some(_) => true,
        None => has_content || flags.iter().any(|(_, given)| *given),
    };
    if !is_on {
        if let Some((flag, _)) = flags.iter().find(|(_, given)| *given) {
            return Err(usage(format_args!("{flag} needs the web side: remove --web off")));
        }
        return Ok(None);
    }
    let public_url = args.public_url.as_deref().map(public_url).transpose()?;
    let mut trusted_proxies = trusted_proxies(&args.proxy)?;
    trusted_proxies.loopback |= public_url.is_some();
    Ok(Some(WebOptions {
        address: args.web.as_deref().map(|text| address("--web", text, 6880)).transpose()?,
        admin: match args.admin.as_deref() {
            None => AdminAddress::Loopback,
            Some("off") => AdminAddress::Off,
            Some(text) => AdminAddress::At(address("--admin", text, 6870)?),
        },
        public_url,
        trusted_proxies,
        web_seed: args.web_seed,
    }))
}

fn public_url(text: &str) -> Result<String, Failure> {
    let url = url::read(text.as_bytes(), &WEB_SCHEMES).filter(|url| {
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none()
    });
    url.map(String::from).ok_or_else(|| {
        let text = printable(text.as_bytes());
        usage(format_args!("--public-url: not a public URL: '{text}': give http or https, a host and a path only"))
    })
}

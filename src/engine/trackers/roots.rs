//! The root certificates by which HTTPS servers are verified.
//!
//! The system's are used if there are any. An image without `/etc/ssl` has none: there Mozilla's, which are compiled
//! in, are used.

use std::env;
use std::sync::OnceLock;

use rustls_native_certs::load_native_certs;
use tracing::debug;
use ureq::tls::RootCerts;

/// Variables with which users name their own roots, as for OpenSSL.
const CHOICES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Whether roots exist on the system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SystemRoots {
    Absent,
    /// Also if they cannot be read: other roots must not take the place of the ones that the operator chose.
    Present,
}

/// Returns the roots to use. Looks at the system once per process.
pub(super) fn chosen() -> RootCerts {
    static FOUND: OnceLock<SystemRoots> = OnceLock::new();
    match FOUND.get_or_init(find) {
        SystemRoots::Present => RootCerts::PlatformVerifier,
        SystemRoots::Absent => RootCerts::WebPki,
    }
}

fn find() -> SystemRoots {
    if CHOICES.iter().any(|name| env::var_os(name).is_some()) {
        return SystemRoots::Present;
    }
    let loaded = load_native_certs();
    if loaded.certs.is_empty() && loaded.errors.is_empty() {
        debug!("the system has no root certificates: Mozilla's are used");
        SystemRoots::Absent
    } else {
        SystemRoots::Present
    }
}

//! `bt-fast health`: asks a running server whether it answers, for images without another HTTP client.

use super::exit::{Exit, Failure};
use super::interrupt::{self, Hangup};
use super::options::HealthOptions;
use super::output::Output;
use super::records::Record;
use crate::codec::url::without_credentials;
use crate::engine::network::egress::Egress;
use crate::engine::trackers::http::{FetchLimits, Fetcher, HttpError};

pub(super) fn run(options: &HealthOptions, output: &Output) -> Result<(), Failure> {
    let HealthOptions { url, timeout } = options;
    let shown = without_credentials(url);
    let stop = interrupt::flag(Hangup::Ends)?;
    match Fetcher::new(Egress::default()).fetch_unless(&stop, url, FetchLimits::health(*timeout)) {
        Ok(_) => {
            output.message(format_args!("healthy: {shown}"));
            output.record(&Record::Healthy { url: &shown });
            Ok(())
        }
        Err(error) => {
            let exit = if matches!(error, HttpError::Interrupted) { Exit::Interrupted } else { Exit::Failed };
            Err(Failure::new(exit, format_args!("unhealthy: {shown}: {error}")))
        }
    }
}

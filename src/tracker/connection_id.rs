//! The connection ids of BEP 15 without a table: an id is a keyed hash of the address that it is issued to and of the
//! time.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use crate::base::Time;

/// Length in seconds of the window of time in which ids of an address are equal.
const WINDOW_S: u64 = 60;
/// Number of windows whose ids are accepted. BEP 15: a client may use an id "until one minute after", and a tracker
/// accepts it "until two minutes after it has been sent".
const WINDOWS: u64 = 3;

/// Issues connection ids and checks them. A clone accepts the ids of its original.
#[derive(Clone, Debug)]
pub struct ConnectionIds {
    /// Random keys of SipHash. A host that cannot receive packets of an address cannot guess its id.
    keys: RandomState,
}

impl ConnectionIds {
    pub fn new(keys: RandomState) -> Self {
        Self { keys }
    }

    /// Returns the id of an address.
    pub fn issue(&self, now: Time, to: IpAddr) -> u64 {
        self.id(now.as_secs() / WINDOW_S, to)
    }

    /// Returns whether this id was issued to that address within the last two to three minutes.
    pub fn accepts(&self, now: Time, from: IpAddr, connection_id: u64) -> bool {
        let window = now.as_secs() / WINDOW_S;
        (0..WINDOWS).filter_map(|age| window.checked_sub(age)).any(|window| self.id(window, from) == connection_id)
    }

    fn id(&self, window: u64, ip: IpAddr) -> u64 {
        self.keys.hash_one((window, ip.to_canonical()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_valid_for_its_address_and_two_minutes() {
        let ids = ConnectionIds::new(RandomState::new());
        let (ip, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for given_at in [0, 59, 60, 1000] {
            let id = ids.issue(Time::from_secs(given_at), ip);
            let accepted = |after, ip| ids.accepts(Time::from_secs(given_at + after), ip, id);
            assert!(accepted(0, ip) && accepted(60, ip) && accepted(120, ip), "{given_at}");
            assert!(accepted(0, "::ffff:192.0.2.1".parse().unwrap()));
            assert!(!accepted(0, other) && !accepted(180, ip), "{given_at}");
        }
        let foreign = ConnectionIds::new(RandomState::new());
        assert!(!ids.accepts(Time::ZERO, ip, foreign.issue(Time::ZERO, ip)));
    }
}

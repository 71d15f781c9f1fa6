//! How many connections each client address has: only those that have one are held.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::net::ClientAddress;

/// Connections open and close on all threads at once: each part has a lock of its own.
const PARTS: usize = 16;
/// Room for so many addresses is not worth giving back.
const KEPT: usize = 64;

/// Which address has how many connections.
#[derive(Debug)]
pub struct Addresses {
    limit: usize,
    /// Addresses of this machine and of private networks are not counted, unless one is a proxy's that hides its client.
    public_only: bool,
    hasher: RandomState,
    parts: [Mutex<HashMap<ClientAddress, usize>>; PARTS],
}

/// A connection's place among those of its address. It is given back on drop.
#[derive(Debug)]
pub struct AddressPlace {
    addresses: Arc<Addresses>,
    address: ClientAddress,
}

/// The address has as many connections as are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressFull;

impl Addresses {
    /// Lets `limit` connections of each address through at a time; with `public_only` of each address of the internet and of
    /// each proxy that hides its clients, and of the others any number.
    #[must_use]
    pub fn new(limit: usize, public_only: bool) -> Arc<Self> {
        Arc::new(Self { limit, public_only, hasher: RandomState::new(), parts: Default::default() })
    }

    /// A place for a connection of `address`; `Ok(None)` where it is not counted.
    ///
    /// # Errors
    /// `AddressFull`.
    pub fn enter(self: &Arc<Self>, address: ClientAddress) -> Result<Option<AddressPlace>, AddressFull> {
        if self.public_only && !address.is_public() && !address.is_hidden() {
            return Ok(None);
        }
        let mut part = self.part(&address);
        let open = part.entry(address).or_insert(0);
        if *open >= self.limit {
            return Err(AddressFull);
        }
        *open += 1;
        Ok(Some(AddressPlace { addresses: self.clone(), address }))
    }

    /// Addresses that have a connection.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn part(&self, address: &ClientAddress) -> MutexGuard<'_, HashMap<ClientAddress, usize>> {
        let number = self.hasher.hash_one(address) as usize % PARTS;
        self.parts[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut part = self.addresses.part(&self.address);
        if let Entry::Occupied(mut entry) = part.entry(self.address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        if part.capacity() > KEPT && part.len() < part.capacity() / 4 {
            let twice = part.len() * 2;
            part.shrink_to(twice);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use http::HeaderMap;
    use shared::net::{ForwardedHeader, Proxies};

    use super::*;

    fn address(text: &str) -> ClientAddress {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn each_address_has_so_many_and_gets_them_back() {
        let addresses = Addresses::new(2, false);
        let (one, two) = (address("127.0.0.1"), address("2001:db8::1"));
        let places: Vec<_> = [one, one, two].map(|address| addresses.enter(address).unwrap().unwrap()).into();
        assert_eq!(addresses.enter(one).unwrap_err(), AddressFull);
        let same_network = addresses.enter(address("2001:db8::2")).unwrap();
        assert_eq!(addresses.enter(two).unwrap_err(), AddressFull);
        assert_eq!(addresses.len(), 2);
        drop(same_network);
        drop(places);
        assert!(addresses.is_empty(), "nothing is held of who has gone");
        assert!(addresses.enter(one).is_ok());
    }

    #[test]
    fn this_machine_and_private_networks_may_be_left_out() {
        let addresses = Addresses::new(1, true);
        for text in ["127.0.0.1", "10.0.0.1", "fd00::1"] {
            assert!((0..3).all(|_| addresses.enter(address(text)).unwrap().is_none()), "{text}");
        }
        let _place = addresses.enter(address("203.0.113.1")).unwrap();
        assert_eq!(addresses.enter(address("203.0.113.1")).unwrap_err(), AddressFull);
        assert_eq!(addresses.len(), 1);
    }

    #[test]
    fn nobody_is_left_out_by_hiding_behind_a_proxy() {
        let proxies = Proxies::parse(&["10.0.0.1".to_owned()], ForwardedHeader::XForwardedFor).unwrap();
        let hidden = |said: &[u8]| {
            let headers = HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), said.try_into().unwrap())]);
            proxies.client("10.0.0.1".parse().unwrap(), &headers)
        };
        let addresses = Addresses::new(1, true);
        let _place = addresses.enter(hidden(b"unknown")).unwrap().unwrap();
        assert_eq!(addresses.enter(hidden(b"\xE9")).unwrap_err(), AddressFull);
        assert!(addresses.enter(address("10.0.0.1")).unwrap().is_none(), "the proxy's own requests");
    }

    #[test]
    fn room_is_given_back() {
        let addresses = Addresses::new(1, false);
        let places: Vec<_> =
            (0..100_000_u32).map(|bits| addresses.enter(IpAddr::V4(bits.into()).into()).unwrap()).collect();
        assert_eq!(addresses.len(), 100_000);
        drop(places);
        assert!(addresses.parts.iter().all(|part| part.lock().unwrap().capacity() <= 2 * KEPT));
    }
}

//! Who has which account. Looked up when a connection comes, or first shows a token: never for a call.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use par_model::AgentId;

use crate::quota::Account;

/// As who somebody is known. The narrowest counts: a token or certificate wins over the address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Address(IpAddr),
    /// What a certificate or token calls its bearer.
    Subject(Arc<str>),
    /// Another agent.
    Agent(AgentId),
}

impl Key {
    /// Whoever has one address of IPv6 has 2⁶⁴ of them.
    pub fn of_address(address: IpAddr) -> Self {
        let masked = match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
        };
        Self::Address(masked)
    }
}

/// At most so many are told apart; further ones share an account until others are blank again.
#[derive(Debug)]
pub struct Accounts {
    most: usize,
    table: Mutex<Table>,
    others: Arc<Account>,
}

#[derive(Debug, Default)]
struct Table {
    known: HashMap<Key, Arc<Account>>,
    /// At how many the blank ones are looked for: twice as many as were not, so that a look costs each newcomer little.
    sweep_at: usize,
}

/// Of which blank ones are not worth a look.
const FEW: usize = 256;

impl Accounts {
    pub fn new(most: usize) -> Self {
        Self {
            most,
            table: Mutex::default(),
            others: Arc::default(),
        }
    }

    pub fn of(&self, key: &Key, now: u64) -> Arc<Account> {
        // A table that a thread has left in the middle is a table all the same.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = table.known.get(key) {
            return Arc::clone(account);
        }
        if table.known.len() >= table.sweep_at.max(FEW).min(self.most) {
            table.sweep(now);
        }
        if table.known.len() >= self.most {
            return Arc::clone(&self.others);
        }
        let account = Arc::<Account>::default();
        table.known.insert(key.clone(), Arc::clone(&account));
        account
    }
}

impl Table {
    /// Forgets who has nothing, and nobody holds.
    fn sweep(&mut self, now: u64) {
        let is_held = |account: &Arc<Account>| Arc::strong_count(account) > 1;
        self.known
            .retain(|_, account| is_held(account) || !account.is_blank(now));
        self.sweep_at = 2 * self.known.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Quota;
    use crate::rate::Rate;

    fn key(number: u32) -> Key {
        Key::Subject(number.to_string().into())
    }

    fn count(accounts: &Accounts) -> usize {
        accounts.table.lock().expect("whole").known.len()
    }

    #[test]
    fn a_network_of_ipv6_is_one_caller_and_a_mapped_address_is_ipv4() {
        let of = |text: &str| Key::of_address(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn a_caller_keeps_its_account_while_it_has_anything() {
        let accounts = Accounts::new(1000);
        let account = accounts.of(&key(0), 0);
        for number in 1..5000 {
            accounts.of(&key(number), 0);
        }
        assert!(Arc::ptr_eq(&account, &accounts.of(&key(0), 0)));
    }

    #[test]
    fn callers_that_come_once_take_no_more_than_a_bounded_place() {
        let accounts = Accounts::new(1000);
        for number in 0..50_000 {
            accounts.of(&key(number), 0);
            assert!(count(&accounts) <= 1000);
        }
        assert!(count(&accounts) <= FEW);
    }

    #[test]
    fn whoever_finds_no_place_shares_one() {
        let accounts = Accounts::new(2);
        let held = [accounts.of(&key(0), 0), accounts.of(&key(1), 0)];
        let (third, fourth) = (accounts.of(&key(2), 0), accounts.of(&key(3), 0));
        assert!(Arc::ptr_eq(&third, &fourth));
        drop(held);
        assert!(!Arc::ptr_eq(&third, &accounts.of(&key(2), 0)));
    }

    #[test]
    fn leaving_and_coming_back_fills_no_bucket() {
        let (accounts, quota) = (
            Accounts::new(1),
            Quota {
                calls: 0,
                rate: Rate::new(1, 1),
            },
        );
        accounts.of(&key(0), 0).call(&quota, 0).expect("the first");
        accounts.of(&key(1), 0);
        assert!(accounts.of(&key(0), 0).call(&quota, 0).is_err());
    }
}

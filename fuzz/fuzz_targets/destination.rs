//! Destinations: no text makes the reader panic, and what it understands it writes so that it is read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use par_model::network::{Destination, Host};

fuzz_target!(|text: &str| {
    if let Ok(destination) = text.parse::<Destination>() {
        assert_eq!(destination.to_string().parse(), Ok(destination));
    }
    if let Ok(host) = Host::parse(text) {
        assert_eq!(Host::parse(&host.to_string()), Ok(host));
    }
});

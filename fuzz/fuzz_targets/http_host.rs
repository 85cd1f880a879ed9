//! What is taken for a host is an authority to others too, without a user; nothing that is not ours is let in.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use par_door::{Host, Names};

fuzz_target!(|input: (&str, Option<&str>)| {
    let (host, origin) = input;
    let names = Names::of(IpAddr::V4(Ipv4Addr::LOCALHOST), vec![], vec![]);
    let admitted = names.admit(host, origin).is_ok();
    if Host::parse(host).is_none() {
        return assert!(!admitted);
    }
    let authority: http::uri::Authority = host.parse().expect("an authority");
    assert_eq!(authority.as_str(), host);
    assert!(!host.contains(['@', '/', '%', ' ', '\\']));
    if admitted {
        let bare = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        let is_ours = bare == "localhost" || bare.ends_with(".localhost") || bare == "supervisor";
        assert!(is_ours || bare.parse::<IpAddr>().is_ok(), "{bare}");
    }
});

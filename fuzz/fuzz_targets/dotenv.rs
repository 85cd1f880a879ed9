//! Every variable that is read could be one of a process.
#![no_main]

use libfuzzer_sys::fuzz_target;
use par_package::Dotenv;

fuzz_target!(|bytes: &[u8]| {
    for (name, value) in Dotenv::parse(bytes).variables.iter() {
        assert!(!name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
    }
});

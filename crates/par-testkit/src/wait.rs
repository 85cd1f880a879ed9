//! A wait that names what it waited for.

use std::thread::sleep;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(10);

/// Asks `look` until it has something to show.
///
/// # Panics
/// After `limit`, with the name of what was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    match comes_within(limit, look) {
        Some(seen) => seen,
        None => panic!("not within {limit:?}: {what}"),
    }
}

/// Like [`wait_for`], for who has more to say of what did not come.
pub fn comes_within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let give_up = Instant::now() + limit;
    loop {
        let seen = look();
        if seen.is_some() || Instant::now() >= give_up {
            return seen;
        }
        sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_appears_later_ends_the_wait() {
        let mut looks = 0;
        let seen = wait_for("the third look", Duration::from_secs(10), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(seen, 3);
    }

    #[test]
    #[should_panic(expected = "not within 20ms: godot")]
    fn what_never_comes_is_named() {
        wait_for("godot", Duration::from_millis(20), || None::<()>);
    }
}

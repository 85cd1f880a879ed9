//! An APKG becomes a verified, unpacked, content-addressed package with its environment.

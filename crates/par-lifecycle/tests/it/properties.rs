use par_lifecycle::Settings;
use crate::stage;
/// Room for everybody, so that the ledger needs to know nothing of ports.
pub(crate) fn roomy() -> Settings {
    Settings {
        ports: 8001..=8999,
        ..stage::settings()
    }
}

/// Fewer ports than agents want, and gRPC ports that are the HTTP ports of others.
pub(crate) fn crowded() -> Settings {
    Settings {
        ports: 10..=25,
        grpc_offset: 2,
        ..stage::settings()
    }
}

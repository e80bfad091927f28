//! The data plane: balances the mapped ports to healthy instances, in a process of its own.

mod link_stub;
pub mod protocol;
pub use link_stub::Link;

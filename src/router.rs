//! The data plane: balances the mapped ports to healthy instances, in a process of its own.

pub mod protocol;

//! Stands in until the router's link is merged.
use crate::model::InstanceId;
use std::net::SocketAddr;
/// Stub.
#[derive(Clone, Default, Debug)]
pub struct Link;
impl Link {
    /// Stub.
    pub fn publish(&self, _table: super::protocol::Table) {}
    /// Stub.
    pub fn applied(&self, _version: u64) -> impl Future<Output = Vec<(SocketAddr, String)>> + Send + 'static {
        std::future::ready(Vec::new())
    }
    /// Stub.
    pub fn drained(&self, _id: &InstanceId) -> impl Future<Output = ()> + Send + 'static {
        std::future::ready(())
    }
    /// Stub.
    pub fn connected(&self) -> bool {
        true
    }
}

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
    pub async fn applied(&self, _version: u64) -> Vec<(SocketAddr, String)> {
        Vec::new()
    }
    /// Stub.
    pub async fn drained(&self, _id: &InstanceId) {}
    /// Stub.
    pub fn connected(&self) -> bool {
        true
    }
}

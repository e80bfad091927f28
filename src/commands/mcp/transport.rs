//! Messages of a client, as many as are answered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use rmcp::{
    RoleServer,
    model::{ClientNotification, JsonRpcMessage, RequestId},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Maximum number of requests whose responses have not been written. The client is not read while there are so many.
const MAX_OPEN_REQUESTS: usize = 64;

/// A transport whose client is read only while few of its requests are open: the service itself would take any number of them.
pub(super) struct Bounded<T> {
    inner: T,
    free: Arc<Semaphore>,
    open: Arc<Mutex<HashMap<RequestId, OwnedSemaphorePermit>>>,
}

impl<T> Bounded<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, free: Arc::new(Semaphore::new(MAX_OPEN_REQUESTS)), open: Arc::default() }
    }
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Bounded<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let answered = match &message {
            JsonRpcMessage::Response(response) => Some(response.id.clone()),
            JsonRpcMessage::Error(error) => error.id.clone(),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        let open = Arc::clone(&self.open);
        let sending = self.inner.send(message);
        async move {
            let sent = sending.await;
            if let Some(id) = answered {
                open.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        // Before the message is read: what is dropped here, the next call finds.
        let slot = Arc::clone(&self.free).acquire_owned().await.ok()?;
        let message = self.inner.receive().await?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match &message {
            // The id of an open request again breaks the protocol, and its responses could not be told apart.
            JsonRpcMessage::Request(request) if open.contains_key(&request.id) => return None,
            JsonRpcMessage::Request(request) => drop(open.insert(request.id.clone(), slot)),
            // It gets no response; `server.rs` bounds the calls that go on all the same.
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    open.remove(id);
                }
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
        }
        drop(open);
        Some(message)
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}

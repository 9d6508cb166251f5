//! A place for the handle of a service that may not be up yet, or no more.

use std::sync::{Arc, Mutex, PoisonError};

/// Clones share the same place.
pub struct Slot<T>(Arc<Mutex<Option<T>>>);

impl<T: Clone> Slot<T> {
    /// The handle, while the service is up.
    #[cfg(any(feature = "web", feature = "sync"))]
    pub fn get(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The service is up.
    pub fn put(&self, handle: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    }

    /// The service is on its way down.
    pub fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

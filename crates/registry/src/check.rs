//! Asking a registry whether it takes credentials (`docker login`).

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::RegistryError;
use crate::scope::Scopes;
use crate::transport::{Call, failure};
use reqwest::Method;
use wharf_image::Reference;

impl Client {
    /// Asks the registry of `repository` for its API root with `credentials`.
    ///
    /// # Errors
    /// [`RegistryError::Unauthorized`] when it does not take them, and all failures of transport.
    pub async fn check(
        &self,
        repository: &Reference,
        credentials: &Credentials,
    ) -> Result<(), RegistryError> {
        let endpoint = self.inner().endpoints.of(repository).await?;
        let mut url = endpoint.url("tags/list")?;
        url.set_path("/v2/");
        let call = Call::new(Method::GET, &endpoint, url, Scopes::default(), credentials);
        let response = self.send(&call).await?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(failure(&endpoint, "log in", response).await)
    }
}

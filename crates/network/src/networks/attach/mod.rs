//! Joining containers to networks and taking them off.

mod announce;
mod inside;
mod interface;

use std::os::fd::BorrowedFd;

use super::{Networks, open_netlink};
use crate::bridge::VETH_PREFIX;
use crate::endpoint::{Endpoint, EndpointRequest};
use crate::error::NetworkError;
use inside::netlink_inside;

impl Networks {
    /// Joins a namespace to a network: an interface inside with its addresses and names; its
    /// network becomes the default gateway when it is the container's first by priority and name.
    /// Either all of it is done or nothing is left.
    ///
    /// # Errors
    /// [`NetworkError::InvalidRequest`], [`NetworkError::UnknownNetwork`], errors of addresses,
    /// [`NetworkError::Netlink`], [`NetworkError::Sysctl`].
    pub fn attach(
        &self,
        namespace: BorrowedFd<'_>,
        request: &EndpointRequest,
    ) -> Result<Endpoint, NetworkError> {
        let inner = &self.inner;
        request.validate()?;
        inner.wake(&request.network_id)?;
        inner.mend(&request.network_id)?;
        let (mut endpoint, mac) = inner.lock().reserve(request, random_hexadecimal(64)?)?;
        let joined = inner.connect(namespace, &mut endpoint, mac, request);
        if let Err(error) = joined {
            // The first error is the one to report.
            self.detach(&endpoint);
            return Err(error);
        }
        inner
            .lock()
            .endpoints
            .insert(endpoint.endpoint_id.clone(), endpoint.clone());
        inner.register(&endpoint);
        Ok(endpoint)
    }

    /// Undoes [`Networks::attach`]; what is already gone is no failure.
    ///
    /// Addresses and names are free when this returns, and nothing answers for them any more. The interface goes with
    /// its namespace; if the namespace lives on, a veth pair is removed a quarter of a second later, or at once when
    /// the namespace is attached again. [`Networks::leave`] is for namespaces that live on.
    pub fn detach(&self, endpoint: &Endpoint) {
        let inner = &self.inner;
        inner.resolver.directory().leave(endpoint);
        // An endpoint that is not known has no claim on its interface any more.
        let known = inner.lock().endpoints.contains_key(&endpoint.endpoint_id);
        let has_pair = known && endpoint.host_interface.starts_with(VETH_PREFIX);
        if has_pair && let Ok(mut netlink) = open_netlink() {
            // The kernel may have removed it already.
            let _ = netlink.silence_port(&endpoint.host_interface);
        }
        inner.lock().release(&endpoint.endpoint_id);
        if has_pair {
            inner.reaper.remove_soon(&endpoint.host_interface);
        }
    }

    /// Takes a running container off a network: its interface is gone when this returns, and
    /// another network becomes the default gateway if one can.
    ///
    /// # Errors
    /// [`NetworkError::Namespace`], [`NetworkError::Netlink`]; the container is off all the same.
    pub fn leave(
        &self,
        namespace: BorrowedFd<'_>,
        endpoint: &Endpoint,
    ) -> Result<(), NetworkError> {
        let inner = &self.inner;
        inner.resolver.directory().leave(endpoint);
        let known = inner.lock().endpoints.contains_key(&endpoint.endpoint_id);
        if !known {
            return Ok(());
        }
        let removed = if endpoint.host_interface.is_empty() {
            netlink_inside(namespace, || Ok(())).and_then(|mut inside| {
                inside
                    .delete_link(&endpoint.interface)
                    .map_err(NetworkError::netlink(format!(
                        "remove {} in the container",
                        endpoint.interface
                    )))
            })
        } else {
            open_netlink().and_then(|mut netlink| {
                netlink
                    .delete_link(&endpoint.host_interface)
                    .map_err(NetworkError::netlink(format!(
                        "remove device {}",
                        endpoint.host_interface
                    )))
            })
        };
        // Only now: nobody else is to have the address while this interface answers for it.
        inner.lock().release(&endpoint.endpoint_id);
        removed.and(self.set_routes(namespace, &endpoint.container_id))
    }

    /// Makes a container's default routes those of its gateway networks.
    ///
    /// # Errors
    /// [`NetworkError::Namespace`], [`NetworkError::Netlink`].
    pub fn set_routes(
        &self,
        namespace: BorrowedFd<'_>,
        container_id: &str,
    ) -> Result<(), NetworkError> {
        let chosen: Vec<Option<Endpoint>> = {
            let state = self.inner.lock();
            [false, true]
                .map(|ipv6| state.gateway_endpoint(container_id, ipv6).cloned())
                .into()
        };
        let mut inside = netlink_inside(namespace, || Ok(()))?;
        for (endpoint, ipv6) in chosen.into_iter().zip([false, true]) {
            match endpoint {
                Some(endpoint) => inside::set_default_route(&mut inside, &endpoint, ipv6)?,
                None if ipv6 && !inside::has_ipv6() => {}
                None => inside
                    .delete_default_route(ipv6)
                    .map_err(NetworkError::netlink(
                        "remove the container's default route",
                    ))?,
            }
        }
        Ok(())
    }
}

fn random_hexadecimal(digits: usize) -> Result<String, NetworkError> {
    let mut bytes = vec![0_u8; digits.div_ceil(2)];
    getrandom::fill(&mut bytes).map_err(|error| NetworkError::InvalidRequest {
        reason: format!("no random identifier: {error}"),
    })?;
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    Ok(text)
}

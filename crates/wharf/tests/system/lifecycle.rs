//! Lives of containers through clients that docker's users have.

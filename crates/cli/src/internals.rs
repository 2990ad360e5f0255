//! What the recorded vectors and the fuzz targets ask of this room. No face for other rooms.

pub use crate::commands::container::list as containers;
pub use crate::commands::image::list as images;
pub use crate::options::{env, filter, gpus, limits, misc, mount, network, port, volume};
pub use crate::render::{ports, template, text};
pub use crate::stdcopy;

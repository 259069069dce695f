//! bt-fast and the clients of others move the same content, both ways, through real sockets.

mod magnet;
mod metainfo;
mod opentracker;
mod transfer;

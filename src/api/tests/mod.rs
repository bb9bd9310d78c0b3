//! The API over real sockets, with a driver that decides at once.

mod hostile;
mod member;
mod membership;
mod operating;
mod publishing;
mod reading;

//! The API over real sockets, with a driver that decides at once.

mod driver;
mod hostile;
mod member;
mod membership;
mod observing;
mod operating;
mod publishing;
mod reading;

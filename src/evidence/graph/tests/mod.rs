mod comparison;
mod pictures;
mod unit;

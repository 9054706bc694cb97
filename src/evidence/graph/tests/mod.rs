mod answers;
mod axes;
mod comparison;
mod pictures;
mod query;
mod unit;

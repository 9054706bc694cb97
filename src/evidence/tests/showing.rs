//! Cards that were shown, until their evidence is frozen.

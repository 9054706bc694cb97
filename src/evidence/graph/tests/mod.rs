mod comparison;

"""What polling costs and gains: the product's own policy code in simulated worlds, beside other ways to poll."""

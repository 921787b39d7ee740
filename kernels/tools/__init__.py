"""Tools for whoever works on the kernels: ahead-of-time compilation and timings. Nothing else imports them."""

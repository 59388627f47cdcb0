"""`make gpu-prove`: is decoding on CUDA right on this machine, and how near is it to what the memory allows?"""

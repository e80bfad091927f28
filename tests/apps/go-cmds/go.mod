module example.com/shop

go 1.25

toolchain go1.25.4

require example.org/settings v1.4.0

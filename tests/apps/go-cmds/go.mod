module example.com/shop

go 1.25

toolchain go1.25.4

require github.com/kelseyhightower/envconfig v1.4.0

package main

import (
	"log"
	"time"

	"example.com/shop/internal/greeting"
)

func main() {
	for range time.Tick(time.Minute) {
		log.Print(greeting.Text)
	}
}

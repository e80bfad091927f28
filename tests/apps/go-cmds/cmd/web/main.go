package main

import (
	"fmt"
	"html/template"
	"log"
	"net/http"

	"example.com/shop/internal/greeting"
	"github.com/kelseyhightower/envconfig"
)

type config struct {
	Port int `default:"8080"`
}

func main() {
	var c config
	if err := envconfig.Process("", &c); err != nil {
		log.Fatal(err)
	}
	page := template.Must(template.ParseFiles("templates/index.html"))
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		page.Execute(w, greeting.Text)
	})
	log.Fatal(http.ListenAndServe(fmt.Sprintf(":%d", c.Port), nil))
}

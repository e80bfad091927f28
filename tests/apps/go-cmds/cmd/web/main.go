package main

import (
	"html/template"
	"log"
	"net/http"

	"example.com/shop/internal/greeting"
	"example.org/settings"
)

func main() {
	page := template.Must(template.ParseFiles("templates/index.html"))
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		page.Execute(w, greeting.Text)
	})
	log.Fatal(http.ListenAndServe(":"+settings.Get("PORT", "8080"), nil))
}

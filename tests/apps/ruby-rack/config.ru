require "bundler/setup"
require "greeting"
require "phrases"

run ->(_env) { [200, { "content-type" => "text/plain" }, ["#{Greeting.hello} #{Phrases::FROM}\n"]] }

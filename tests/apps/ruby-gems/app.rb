require "bundler/setup"
require "greeting"
require "phrases"
require "socket"

$stdout.sync = true
server = TCPServer.new("0.0.0.0", Integer(ENV.fetch("PORT", "8080")))
trap("TERM") { exit }
loop do
  Thread.new(server.accept) do |client|
    until ["\r\n", nil].include?(client.gets) do end
    text = "#{Greeting.hello} #{Phrases::FROM}\n"
    client.write("HTTP/1.1 200 OK\r\ncontent-length: #{text.bytesize}\r\nconnection: close\r\n\r\n#{text}")
    client.close
  end
end

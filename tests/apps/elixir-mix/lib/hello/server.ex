defmodule Hello.Server do
  @moduledoc "OTP's own web server, with one page."

  def child_spec(_), do: %{id: __MODULE__, start: {__MODULE__, :start_link, []}}

  def start_link do
    :inets.start(:httpd, [
      {:port, Application.fetch_env!(:hello, :port)},
      {:bind_address, {0, 0, 0, 0}},
      {:server_name, ~c"hello"},
      {:server_root, ~c"/tmp"},
      {:document_root, ~c"/tmp"},
      {:modules, [__MODULE__]}
    ], :stand_alone)
  end

  # What :httpd calls for a request.
  def unquote(:do)(_request) do
    body = String.to_charlist("#{Phrases.greeting()} from Elixir\n")
    length = body |> length() |> Integer.to_charlist()
    head = [code: 200, content_type: ~c"text/plain", content_length: length]
    {:proceed, [response: {:response, head, body}]}
  end
end

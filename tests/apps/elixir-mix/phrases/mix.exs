defmodule Phrases.MixProject do
  use Mix.Project

  def project do
    [app: :phrases, version: "0.1.0"]
  end
end

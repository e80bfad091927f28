module Phrases
  FROM = "from Rack"
end

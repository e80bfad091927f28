module Phrases
  FROM = "from gems"
end

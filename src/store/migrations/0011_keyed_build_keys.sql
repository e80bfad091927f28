-- The keys were plain hashes, also of variables for builds: they are hashed with the server's key now, and each app is built once more.
UPDATE builds SET key = '';

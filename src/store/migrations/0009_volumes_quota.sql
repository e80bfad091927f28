-- The limit of volumes is named after them.
UPDATE quotas SET resource = 'volumes' WHERE resource = 'disks';
